from app.admin.refusal import Refused


def test_a_refusal_says_what_and_what_to_do() -> None:
    refused = Refused("no_home", "There is none.", hint="Make one.")

    assert str(refused) == refused.detail == "There is none."
    assert (refused.code, refused.hint, refused.exit_code) == ("no_home", "Make one.", 2)
