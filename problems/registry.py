"""The registry of error codes: HTTP status, title, and what to do where nothing better is known.

A code never changes its meaning. docs/errors has a page about each; a test holds the two together.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """What all problems of one code have in common."""

    status: int
    title: str
    hint: str


KINDS: dict[str, Kind] = {
    # The request
    "malformed_request": Kind(
        400, "The request is not HTTP", "Does the address begin with https where http is spoken?"
    ),
    "invalid_json": Kind(
        400,
        "The body is not JSON",
        'Send JSON, for example: curl --json \'{"dataset": "mnist"}\' URL',
    ),
    "invalid_request": Kind(422, "The request is not valid", "See errors for each wrong field."),
    "unknown_field": Kind(422, "A field that danlu does not know", "See errors for its name."),
    "unknown_parameter": Kind(
        422,
        "A query or form parameter that danlu does not know",
        "GET /docs lists the parameters of every address.",
    ),
    "invalid_multipart": Kind(
        400, "The multipart body cannot be read", "With curl: curl -F file=@image.jpg URL"
    ),
    "unsupported_media_type": Kind(
        415,
        "A body of a kind that this endpoint does not take",
        "GET /docs shows which bodies this address takes.",
    ),
    "body_too_large": Kind(413, "The body is too large", "Send less in one request."),
    "key_missing": Kind(
        401, "The request carries no key", "Send the header Authorization: Bearer KEY."
    ),
    "key_wrong": Kind(
        401,
        "The key is not the right one",
        "See what danlu serve printed, or DANLU_API_KEY of the server.",
    ),
    "proxy_without_key": Kind(
        403,
        "A proxy must not stand before a server without a key",
        "Set DANLU_API_KEY at the server.",
    ),
    "origin_refused": Kind(
        403,
        "A web page of another origin may not do this",
        "Name the page's origin in DANLU_CORS_ORIGINS.",
    ),
    "host_refused": Kind(
        421, "The server is not known by this name", "Name it in DANLU_ALLOWED_HOSTS."
    ),
    "request_too_slow": Kind(
        408, "The request took too long to arrive", "Send it again over a better connection."
    ),
    "not_found": Kind(404, "There is nothing at this address", "GET /docs lists every address."),
    "method_not_allowed": Kind(
        405,
        "This address does not take that method",
        "GET /docs lists the methods of every address.",
    ),
    "range_not_satisfiable": Kind(
        416,
        "The file has no such part",
        "Content-Range says how long it is; without Range all of it comes.",
    ),
    # Training
    "dataset_unknown": Kind(404, "No data set of that name", "GET /datasets lists what there is."),
    "dataset_unavailable": Kind(
        503,
        "The data set could not be downloaded",
        "Try again when there is internet, or put the files there yourself.",
    ),
    "weights_unavailable": Kind(
        503,
        "The pretrained weights could not be had",
        "Put their file there yourself, or train with pretrained: false.",
    ),
    "dataset_not_downloaded": Kind(
        409,
        "The images of the data set are not on this disk yet",
        "The first training downloads them: POST /train.",
    ),
    "dataset_invalid": Kind(
        422,
        "The data set cannot be used as it is",
        "GET /datasets lists the sets that can be used.",
    ),
    "dataset_changed": Kind(
        409,
        "The data set is not what it was",
        "Train again on it as it is now, or put the images back.",
    ),
    "name_taken": Kind(
        409,
        "The name of the data set is taken",
        "Choose another name, or replace the set: PUT /datasets/{name}.",
    ),
    "dataset_in_use": Kind(
        409,
        "A job uses the data set",
        "Wait until it has ended, or cancel it: GET /jobs?active=true lists the jobs.",
    ),
    "archive_invalid": Kind(
        400,
        "The archive cannot be read",
        "Pack the folder of images as a zip or tar, without a password.",
    ),
    "archive_unsafe": Kind(
        400,
        "The archive has entries that lead elsewhere",
        "Pack the folder of images itself, without links and absolute paths.",
    ),
    "archive_too_large": Kind(
        413,
        "The archive unpacks to too much",
        "Divide it into several archives, and add one after the other.",
    ),
    "architecture_unknown": Kind(
        404, "No architecture of that name", "GET /architectures lists what there is."
    ),
    "recipe_unknown": Kind(
        404, "No ready-made recipe of that name", "GET /recipes lists what there is."
    ),
    "optimizer_unknown": Kind(
        422, "No optimizer of that name", "Take one of torch.optim, such as SGD, Adam or AdamW."
    ),
    "scheduler_unknown": Kind(
        422, "No scheduler of that name", "Take one of PyTorch's, such as OneCycleLR, or null."
    ),
    "loss_unknown": Kind(422, "No loss of that name", "Take CrossEntropyLoss, L1Loss or MSELoss."),
    "lr_twice": Kind(
        422, "The learning rate is given twice", "Give either lr or optimizer.lr, not both."
    ),
    "transform_unknown": Kind(
        422, "No transform of that name", "The guide docs/guide/transforms.md lists them."
    ),
    "transforms_misfit": Kind(
        422,
        "The transforms cannot work like this",
        "The guide docs/guide/transforms.md says which order works.",
    ),
    "network_misfit": Kind(
        422, "The network cannot take images of this size", "Use a larger image_size."
    ),
    "layers_misfit": Kind(
        422, "The layers do not fit together", "Change the layer that errors names."
    ),
    "network_too_large": Kind(
        422,
        "The network is too large",
        "Use fewer channels or features, or a stride or pooling before Flatten.",
    ),
    "device_unavailable": Kind(422, "The worker has no such device", 'Use device "auto".'),
    # Jobs
    "job_not_found": Kind(404, "No job of that id", "GET /jobs lists the jobs."),
    "job_ended": Kind(
        409, "The job has ended already", "GET /jobs/{id} says how; POST /train starts another one."
    ),
    "job_active": Kind(
        409, "The job has not ended", "Cancel it first, or wait until it has ended."
    ),
    "job_not_resumable": Kind(
        409,
        "There is nothing to resume",
        "Give more epochs, or start another job: POST /train takes the recipe back.",
    ),
    "idempotency_conflict": Kind(
        422, "This Idempotency-Key was used for another request", "Use a new key for a new request."
    ),
    "too_many_queued": Kind(
        429, "Too many jobs of one owner are queued", "Wait until some have run, or cancel some."
    ),
    "worker_stuck": Kind(
        500, "The job stopped moving", "GET /jobs/{id}/logs shows how far it came."
    ),
    "worker_lost": Kind(
        500,
        "The worker was lost again and again",
        "GET /jobs/{id}/logs shows how far it came; GET /system what memory there is.",
    ),
    "job_failed": Kind(
        500, "The job stopped with an error", "GET /jobs/{id}/logs shows the whole error."
    ),
    "training_failed": Kind(
        500, "The training stopped with an error", "GET /jobs/{id}/logs has the details."
    ),
    "out_of_memory": Kind(
        507,
        "The device has not enough memory",
        "Try a smaller image_size or network, or end other programs that use the memory.",
    ),
    "deterministic_unavailable": Kind(
        422,
        "The training cannot be repeated to the bit on this device",
        'Leave deterministic out, give device "cpu", or a network without that operation.',
    ),
    "disk_full": Kind(
        507, "The disk is full", "Free some space; GET /system shows how much there is."
    ),
    # Checkpoints and models
    "checkpoint_not_found": Kind(
        404, "No checkpoint of that id", "GET /checkpoints lists what there is."
    ),
    "checkpoint_in_use": Kind(
        409,
        "The checkpoint is in use",
        "Point its alias elsewhere, or cancel the job that needs it.",
    ),
    "checkpoint_damaged": Kind(
        500,
        "The files of the checkpoint are damaged",
        "Use another checkpoint of the job, or train again.",
    ),
    "not_evaluated": Kind(
        409,
        "The checkpoint has not been judged",
        "The best checkpoint of a job is, when the job ends: GET /jobs/{id} names it.",
    ),
    "no_script": Kind(
        409,
        "There is no script of this job",
        "Ask for the script of a training job once it has saved a checkpoint.",
    ),
    "not_exported": Kind(
        409,
        "The checkpoint has not been exported to this format",
        "POST /checkpoints/{id}/exports makes it.",
    ),
    "export_failed": Kind(
        500, "The checkpoint could not be exported", "Download it as safetensors or pt."
    ),
    "model_file_invalid": Kind(
        400,
        "The file holds no weights that danlu can read",
        "Save them with torch.save(model.state_dict(), 'model.pth').",
    ),
    "weights_misfit": Kind(
        422,
        "The weights are not those of this network",
        "Give the architecture, the classes and the input that the weights were trained with.",
    ),
    "parity_failed": Kind(
        409,
        "The checkpoint does not serve as it was trained",
        "Use another checkpoint, or train again; its report says how many labels differ.",
    ),
    "model_not_found": Kind(
        404, "No such model", "Give an alias, or the id of a checkpoint or of a job."
    ),
    "model_required": Kind(
        404, "No model is named", "Name one of the aliases: GET /models lists them."
    ),
    "no_model_yet": Kind(404, "No model has been trained yet", "Train one first: POST /train."),
    # Images
    "no_file": Kind(
        422,
        "No file was sent",
        "Send one with: curl -F file=@image.jpg URL (the part is named file).",
    ),
    "too_many_files": Kind(413, "Too many images in one request", "Send them in several requests."),
    "empty_file": Kind(
        400,
        "The file is empty",
        "The upload was cut off, or the file is empty: look at it and send it again.",
    ),
    "not_an_image": Kind(
        400,
        "These bytes are no image",
        "Send the file of an image, such as a JPEG or PNG, as it is.",
    ),
    "truncated_image": Kind(400, "The image is cut off or damaged", "Send the whole file again."),
    "unsupported_format": Kind(
        400, "An image format that danlu does not read", "Convert it to JPEG or PNG first."
    ),
    "no_feature_map": Kind(422, "The network keeps no map of the image", "Use explain=input."),
    "image_too_large": Kind(413, "The image is too large", "Scale it down first."),
    # The server
    "not_ready": Kind(503, "The server is not ready", "GET /readyz says when it is ready."),
    "overloaded": Kind(429, "Too many requests at once", "Try again after Retry-After seconds."),
    "too_slow": Kind(
        504, "The prediction took too long", "Try again, or send fewer or smaller images."
    ),
    "home_in_use": Kind(
        409,
        "Another worker uses this home",
        "Stop the other worker, or give this one a home of its own with DANLU_HOME.",
    ),
    "database_unavailable": Kind(
        503, "The database does not answer", "Try again; GET /readyz says when it is back."
    ),
    "home_gone": Kind(
        500,
        "The home was deleted while danlu ran",
        "Put the home back, or start danlu again for a new one.",
    ),
    "database_newer": Kind(
        500,
        "The database was made by a newer danlu",
        "Install the newer version, or use another home.",
    ),
    "internal": Kind(500, "Something went wrong inside danlu", "The server's log says what."),
}
