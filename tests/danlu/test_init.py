import subprocess
import sys


def test_importing_the_client_is_cheap() -> None:
    program = (
        "import sys, danlu; danlu.Client; "
        "print([m for m in ('torch', 'fastapi', 'numpy', 'pydantic', 'PIL')"
        " if m in sys.modules])"
    )

    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert found.stdout == "[]\n", found.stderr
