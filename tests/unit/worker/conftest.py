import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # so that entrypoints can name the small task's module
