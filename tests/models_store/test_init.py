"""What the room loads, and when: a server checks requests before torch is there."""

import subprocess
import sys


def _fresh(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100)


def test_recipe_and_manifest_do_without_torch() -> None:
    _fresh(
        "import sys, models_store.recipe, models_store.manifest\nassert 'torch' not in sys.modules"
    )


def test_planning_and_building_import_nothing_beyond_torch() -> None:
    # A forward pass on the meta device does: sympy and 900 modules more, in every training child.
    _fresh(
        "import sys\n"
        "from models_store import architectures as a, classifier\n"
        "before = len(sys.modules)\n"
        "planned = a.plan('mnist_net', channels=1, size=(28, 28), classes=10)\n"
        "a.flops(planned), a.build(planned)\n"
        "assert len(sys.modules) - before < 10, sys.modules.keys()"
    )
