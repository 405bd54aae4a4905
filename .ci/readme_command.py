"""Print the README's shell command that is marked `<!-- command: NAME -->`."""

import re
import sys
from pathlib import Path

readme = Path(__file__).resolve().parents[1].joinpath("README.md").read_text()
found = re.search(rf"<!-- command: {sys.argv[1]} -->\n```sh\n(.*?)\n```", readme, re.S)
if found is None:
    sys.exit(f"README.md has no command {sys.argv[1]!r}")
print(found.group(1))
