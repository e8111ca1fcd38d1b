"""The page on dry runs says what works: its Python and its curl are run as they stand there."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import boto3
import pytest

from tests.acceptance.server import Server

PAGE = (Path(__file__).parents[2] / "docs/how-to/before-you-pay.md").read_text("utf-8")


def block(language: str) -> str:
    """The page's only block of a language."""
    [found] = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


@pytest.fixture
def uploaded(server: Server, client_environment: dict[str, str], pairs: Path) -> None:
    s3 = boto3.session.Session().client("s3")
    if "my-bucket" not in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]:
        s3.create_bucket(Bucket="my-bucket")
    s3.upload_file(str(pairs), "my-bucket", "train.jsonl")


@pytest.mark.usefixtures("uploaded")
def test_the_python_of_the_page_prints_a_report() -> None:
    run = subprocess.run([sys.executable, "-c", block("python")], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    first, second = run.stdout.splitlines()
    assert first == "True None"
    assert second.startswith("80 steps, {'intake': ")


@pytest.mark.usefixtures("uploaded")
@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl 7.75 or newer on the PATH")
def test_the_curl_of_the_page_prints_a_report() -> None:
    run = subprocess.run(["sh", "-ec", block("sh")], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)["outcropDryRun"]
    assert told["passed"] is True
    for name in re.findall(r"^  (\w+)  +\S", PAGE[PAGE.index("## The report") :], re.MULTILINE):
        assert name in told["estimate"], name
