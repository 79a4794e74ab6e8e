from danlu import DanluError


def test_an_error_reads_as_its_detail() -> None:
    error = DanluError("job_not_found", "No such job.", status=404, hint="List them.")

    assert str(error) == "No such job."
    assert (error.code, error.status, error.hint, error.errors) == (
        "job_not_found",
        404,
        "List them.",
        [],
    )
