"""What a catalogue row says to have the stand-in for vLLM as its engine."""

import shlex
import sys
from pathlib import Path

SERVE = shlex.join([sys.executable, str(Path(__file__).with_name("standin.py")), "serve"])
