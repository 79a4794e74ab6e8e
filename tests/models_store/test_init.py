"""What the room loads: a server checks requests before torch is there."""

import subprocess
import sys


def test_recipe_and_manifest_do_without_torch() -> None:
    code = (
        "import sys, models_store.recipe, models_store.manifest; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100)
