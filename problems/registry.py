"""The registry of error codes: HTTP status, title and, where one answer fits all, what to do.

A code never changes its meaning. docs/errors has a page about each; a test holds the two together.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """What all problems of one code have in common."""

    status: int
    title: str
    hint: str | None = None


KINDS: dict[str, Kind] = {
    # The request
    "invalid_json": Kind(
        400,
        "The body is not JSON",
        'Send JSON, for example: curl --json \'{"dataset": "mnist"}\' URL',
    ),
    "invalid_request": Kind(422, "The request is not valid", "See errors for each wrong field."),
    "unknown_field": Kind(422, "A field that danlu does not know", "See errors for its name."),
    "unknown_parameter": Kind(422, "A query or form parameter that danlu does not know"),
    "invalid_multipart": Kind(400, "The multipart body cannot be read"),
    "unsupported_media_type": Kind(415, "A body of a kind that this endpoint does not take"),
    "body_too_large": Kind(413, "The body is too large"),
    "not_found": Kind(404, "There is nothing at this address", "GET /docs lists every address."),
    "method_not_allowed": Kind(405, "This address does not take that method"),
    # Training
    "dataset_unknown": Kind(404, "No data set of that name", "GET /datasets lists what there is."),
    "dataset_unavailable": Kind(503, "The data set could not be downloaded"),
    "dataset_invalid": Kind(422, "The data set cannot be used as it is"),
    "architecture_unknown": Kind(
        404, "No architecture of that name", "GET /architectures lists what there is."
    ),
    "recipe_unknown": Kind(
        404, "No ready-made recipe of that name", "GET /recipes lists what there is."
    ),
    "optimizer_unknown": Kind(422, "No optimizer of that name"),
    "scheduler_unknown": Kind(422, "No scheduler of that name"),
    "lr_twice": Kind(
        422, "The learning rate is given twice", "Give either lr or optimizer.lr, not both."
    ),
    "network_misfit": Kind(422, "The network cannot take images of this size"),
    "device_unavailable": Kind(422, "The worker has no such device"),
    # Jobs
    "job_not_found": Kind(404, "No job of that id", "GET /jobs lists the jobs."),
    "job_ended": Kind(409, "The job has ended already"),
    "worker_lost": Kind(500, "The worker was lost again and again"),
    "training_failed": Kind(
        500, "The training stopped with an error", "GET /jobs/{id}/logs has the details."
    ),
    "out_of_memory": Kind(
        507, "The device has not enough memory", "Try a smaller batch_size or image_size."
    ),
    "disk_full": Kind(
        507, "The disk is full", "Free some space; GET /system shows how much there is."
    ),
    # Checkpoints and models
    "checkpoint_not_found": Kind(
        404, "No checkpoint of that id", "GET /checkpoints lists what there is."
    ),
    "checkpoint_in_use": Kind(409, "The checkpoint is in use"),
    "checkpoint_damaged": Kind(500, "The files of the checkpoint are damaged"),
    "not_exported": Kind(409, "The checkpoint has not been exported to this format"),
    "model_not_found": Kind(404, "No such model", "Give the id of a checkpoint or of a job."),
    "no_model_yet": Kind(404, "No model has been trained yet", "Train one first: POST /train."),
    # Images
    "no_file": Kind(
        422,
        "No image was sent",
        "Send one with: curl -F file=@image.jpg URL (the part is named file).",
    ),
    "too_many_files": Kind(413, "Too many images in one request"),
    "empty_file": Kind(400, "The file is empty"),
    "not_an_image": Kind(400, "These bytes are no image"),
    "truncated_image": Kind(400, "The image is cut off or damaged", "Send the whole file again."),
    "unsupported_format": Kind(
        400, "An image format that danlu does not read", "Convert it to JPEG or PNG first."
    ),
    "image_too_large": Kind(413, "The image is too large", "Scale it down first."),
    # The server
    "not_ready": Kind(503, "The server is still starting", "GET /readyz says when it is ready."),
    "overloaded": Kind(429, "Too many requests at once", "Try again after Retry-After seconds."),
    "too_slow": Kind(504, "The prediction took too long"),
    "home_in_use": Kind(409, "Another worker uses this home"),
    "database_newer": Kind(
        500,
        "The database was made by a newer danlu",
        "Install the newer version, or use another home.",
    ),
    "internal": Kind(500, "Something went wrong inside danlu", "The server's log says what."),
}
