"""A real server for acceptance tests: `outcrop serve` as a child process over a fresh data directory."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import boto3
import httpx

from outcrop.directory import DataDirectory
from tests.port import KeptPort

START_SECONDS = 120.0
ROLE = "arn:aws:iam::123456789012:role/BedrockCustomizationRole"
"""The role that a first start makes."""


class Server:
    """One server process over one data directory; `environment` is what a client needs.

    keeps_port: it comes back at the same port after a kill, as a server of a fixed port does.
    """

    def __init__(self, root: Path, *, keeps_port: bool = False, **settings: str) -> None:
        self.directory = DataDirectory(root)
        self._settings = {f"OUTCROP_{name.upper()}": value for name, value in settings.items()}
        self._child: subprocess.Popen[bytes] | None = None
        self.endpoint = ""
        self._kept = KeptPort() if keeps_port else None

    def start(self) -> "Server":
        """Start it and wait until it is healthy."""
        self.directory.root.mkdir(parents=True, exist_ok=True)
        with (self.directory.root / "server.log").open("ab") as log:
            self._child = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "outcrop.cli",
                    "serve",
                    "--data",
                    str(self.directory.root),
                    "--port",
                    str(self._kept.number if self._kept else 0),
                ],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **self._settings},
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            assert self._child.poll() is None, self.log()
            running = self.directory.running()
            if running is not None and running.pid == self._child.pid:
                self.endpoint = running.endpoint
                if httpx.get(f"{self.endpoint}/health", trust_env=False).status_code == 200:
                    return self
            time.sleep(0.05)
        raise AssertionError(f"not healthy after {START_SECONDS} s:\n{self.log()}")

    def release(self) -> None:
        """Let the kept port go."""
        if self._kept is not None:
            self._kept.release()

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Ask it to end, as Ctrl-C or a service manager does."""
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        if self._child is not None:
            self._child.send_signal(number)
            self._child.wait(60)
            self._child = None

    def log(self) -> str:
        """All that it wrote."""
        return (self.directory.root / "server.log").read_text(errors="replace")

    @property
    def environment(self) -> dict[str, str]:
        """What `outcrop env` exports."""
        credentials = self.directory.read_credentials()
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": credentials.access_key,
            "AWS_SECRET_ACCESS_KEY": credentials.secret,
            "AWS_DEFAULT_REGION": credentials.region,
        }

    def client(self, service: str, **options: Any) -> Any:
        """boto3's own client for it, with nothing set but address, key and region, and what a test is about."""
        told = self.environment
        return boto3.session.Session().client(
            service,
            endpoint_url=told["AWS_ENDPOINT_URL"],
            aws_access_key_id=told["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=told["AWS_SECRET_ACCESS_KEY"],
            region_name=told["AWS_DEFAULT_REGION"],
            **options,
        )

    def begin_job(self, name: str, model: str, training: bytes, **hyperparameters: str) -> str:
        """Customize a model on a training file, which gets a bucket of its own; all is called by the name.

        Returns the job's ARN.
        """
        s3 = self.client("s3")
        s3.create_bucket(Bucket=name)
        s3.put_object(Bucket=name, Key="train.jsonl", Body=training)
        answer = self.client("bedrock").create_model_customization_job(
            jobName=name,
            customModelName=name,
            roleArn=ROLE,
            baseModelIdentifier=model,
            trainingDataConfig={"s3Uri": f"s3://{name}/train.jsonl"},
            outputDataConfig={"s3Uri": f"s3://{name}/output/"},
            hyperParameters=hyperparameters,
        )
        return str(answer["jobArn"])
