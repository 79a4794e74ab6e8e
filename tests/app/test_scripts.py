import pytest

from app import scripts
from data_store import catalog
from database import jobs
from models_store import checkpoints
from models_store.fields import Normalize
from models_store.recipe import SubmittedRecipe, resolve
from problems import Problem


@pytest.fixture
def written(server):
    """Stores a job, and writes its script."""

    def written(*, kind="train", warnings=(), manifest=None, **given):
        settings = server.settings
        submitted = SubmittedRecipe.model_validate({"seed": 0, **given})
        facts = catalog.facts(str(submitted.dataset), settings.datasets)
        recipe = resolve(submitted, facts).model_dump(mode="json")
        with server.sessions.begin() as session:
            job = jobs.enqueue(session, kind=kind, dataset=facts.name, recipe=recipe, owner="lin")
            job.warnings = [{"code": code, "message": ""} for code in warnings]
            session.flush()
            return scripts.of_job(session, job, settings)

    return written


def test_weights_that_could_not_be_had_are_not_asked_for(written):
    asked = {"dataset": "cifar10", "architecture": "shufflenet_v2_x0_5", "pretrained": "auto"}

    assert 'weights="DEFAULT"' in written(**asked).text
    assert "weights=None" in written(**asked, warnings=["weights_unavailable"]).text


def test_only_training_jobs_have_a_script(written):
    with pytest.raises(Problem, match="kind import") as refused:
        written(kind="import", dataset="digits")

    assert refused.value.code == "no_script"


def test_a_folder_with_parts(written, server, png):
    for part, count in (("Training", 4), ("test", 2)):
        for name in ("cat", "dog"):
            folder = server.settings.datasets / "pets" / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                (folder / f"{number}.png").write_bytes(png(number))

    found = written(dataset="pets", architecture="mnist_net")

    assert 'CLASSES = ["cat", "dog"]' in found.text
    assert 'DATA / "Training",' in found.text
    assert 'DATA / "test",' in found.text
    assert "is_image" not in found.text
    again = written(dataset="pets", architecture="mnist_net", warnings=["unreadable_images"])
    assert "is_valid_file=is_image" in again.text
    records = server.settings.datasets / "pets" / ".danlu"
    records.mkdir()
    (records / "report.json").write_text('{"findings": [{"code": "unreadable_images"}]}')
    imported = written(dataset="pets", architecture="mnist_net")
    assert "is_valid_file=is_image" in imported.text


def test_what_a_checkpoint_knows(server, train):
    """Precision and normalization of the run are those of the script."""
    normalize = Normalize(mean=[0.25], std=[0.125])
    made = train(server.settings, normalize=normalize)
    manifest = checkpoints.read_manifest(server.settings.checkpoints / made.best)
    submitted = SubmittedRecipe(dataset="digits", normalize="auto", seed=0)
    facts = catalog.facts("digits", server.settings.datasets)
    with server.sessions.begin() as session:
        job = jobs.get(session, made.job_id)
        job.recipe = resolve(submitted, facts).model_dump(mode="json")
        session.flush()

        text = scripts.of_job(session, job, server.settings).text

    assert manifest.preprocessing.normalize == normalize
    assert "v2.Normalize(mean=[0.25], std=[0.125])" in text
    assert "autocast" not in text
