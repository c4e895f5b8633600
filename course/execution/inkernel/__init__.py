"""What runs inside a kernel. Standard library and IPython only: no notebook may notice more of it than it must."""

from pathlib import Path

STARTUP = str(Path(__file__).with_name("startup.py"))
