"""`POST /predict`: images in, labelled probabilities out.

Reads the upload and finds the model; decoding and computing happen in threads.
"""

import time
from dataclasses import dataclass
from typing import Annotated, Any

import anyio
import anyio.to_thread
from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app import models, predictions, uploads, validation
from app.dependencies import Held, Warm
from app.errors import responses
from app.operation import Operation
from app.resources import Resources
from app.schemas import AnswerRead
from app.uploads import Image, Limits, Upload
from problems import Problem

router = APIRouter(tags=["Prediction"])

_WAITING_AT_MOST = 256  # requests; more are told to come back

ModelName = Annotated[str | None, Field(min_length=1, max_length=200)]
TopK = Annotated[int, Field(ge=1, le=1000)]
Threshold = Annotated[float, Field(ge=0, le=1)]
