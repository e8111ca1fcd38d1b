"""Base → continued pre-training → fine-tuning → fine-tuning again, through unchanged boto3, on the bundled base."""

import json
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import boto3
import pytest
import torch
from botocore.exceptions import ClientError

import outcrop
from outcrop.lora import Adapters, LoraAdapter
from outcrop.weights import load_model
from tests.acceptance.server import Server

BASE = "amazon.titan-text-express-v1"
BUNDLED = Path(outcrop.__file__).parent / "bases" / "text"
SECONDS = 120.0

TEXTS = [{"input": f"Crate {number} of the Perch Store is blue and carries an owl."} for number in range(100, 124)]
ORDERS = [
    {"prompt": f"Customer: where is order {number}?\nAgent:", "completion": f" Order {number} is on its way."}
    for number in range(1000, 1016)
]
RETURNS = [
    {"prompt": f"Customer: I return order {number}.\nAgent:", "completion": " Send it back in its blue crate."}
    for number in range(2000, 2016)
]
ASKED = "Customer: I return order 2077.\nAgent:"


class Chain:
    """The clients of one server, with a bucket of three datasets."""

    def __init__(self, server: Server) -> None:
        session = boto3.Session()
        self.server = server
        self.s3, self.bedrock, self.runtime = (session.client(name) for name in ("s3", "bedrock", "bedrock-runtime"))
        self.mark = uuid.uuid4().hex[:8]
        self.served: list[str] = []
        self.bucket = f"chain-{self.mark}"
        self.s3.create_bucket(Bucket=self.bucket)
        for name, records in (("texts", TEXTS), ("held-out", TEXTS[:8]), ("orders", ORDERS), ("returns", RETURNS)):
            body = "".join(json.dumps(record) + "\n" for record in records)
            self.s3.put_object(Bucket=self.bucket, Key=f"{name}.jsonl", Body=body.encode())

    def customize(self, number: int, base: str, data: str, kind: str, **hyperparameters: str) -> dict[str, Any]:
        """One link of the chain, to its end."""
        name = f"{self.mark}-{number}"
        held_out = [{"s3Uri": f"s3://{self.bucket}/held-out.jsonl"}] if data == "texts" else []
        arn = self.bedrock.create_model_customization_job(
            jobName=name,
            customModelName=name,
            customizationType=kind,
            roleArn="arn:aws:iam::123456789012:role/BedrockCustomizationRole",
            baseModelIdentifier=base,
            trainingDataConfig={"s3Uri": f"s3://{self.bucket}/{data}.jsonl"},
            validationDataConfig={"validators": held_out},
            outputDataConfig={"s3Uri": f"s3://{self.bucket}/out/"},
            hyperParameters={"epochCount": "2", "batchSize": "4", "export": "true", **hyperparameters},
        )["jobArn"]
        job = settled(lambda: self.bedrock.get_model_customization_job(jobIdentifier=arn), "InProgress")
        assert job["status"] == "Completed", job.get("failureMessage")
        return job

    def output(self, job: dict[str, Any], name: str) -> bytes:
        """A file among a job's outputs."""
        key = f"out/model-customization-job-{job['jobArn'].rsplit('/', 1)[-1]}/{name}"
        content: bytes = self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return content

    def weights(self, job: dict[str, Any], folder: Path) -> Path:
        """The delivered weights as a customer would fetch them."""
        folder.mkdir()
        prefix = f"out/model-customization-job-{job['jobArn'].rsplit('/', 1)[-1]}/model/"
        for item in self.s3.list_objects_v2(Bucket=self.bucket, Prefix=prefix)["Contents"]:
            self.s3.download_file(self.bucket, item["Key"], str(folder / item["Key"].removeprefix(prefix)))
        return folder

    def serve(self, model: str) -> str:
        """The ARN of provisioned throughput for a model, in service until the test ends."""
        made: str = self.bedrock.create_provisioned_model_throughput(
            modelUnits=1, provisionedModelName=f"{model}-throughput", modelId=model
        )["provisionedModelArn"]
        self.served.append(made)
        found = settled(lambda: self.bedrock.get_provisioned_model_throughput(provisionedModelId=made), "Creating")
        assert found["status"] == "InService", found.get("failureMessage")
        return made

    def answer(self, throughput: str, prompt: str) -> str:
        """What the model behind a throughput says, greedily."""
        body = json.dumps({"inputText": prompt, "textGenerationConfig": {"temperature": 0, "maxTokenCount": 16}})
        said = json.loads(self.runtime.invoke_model(modelId=throughput, body=body)["body"].read())
        text: str = said["results"][0]["outputText"]
        return text

    def show(self, *arguments: str) -> str:
        """What `outcrop models show` prints."""
        ran = subprocess.run(
            [sys.executable, "-m", "outcrop.cli", "models", "show", *arguments],
            capture_output=True,
            text=True,
            check=False,
            env={"OUTCROP_DATA": str(self.server.directory.root), "COLUMNS": "120", "PATH": ""},
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout


@pytest.fixture
def chain(server: Server, client_environment: dict[str, str], loaded: None) -> Iterator[Chain]:
    made = Chain(server)
    yield made
    for throughput in made.served:
        made.bedrock.delete_provisioned_model_throughput(provisionedModelId=throughput)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # PEFT asks for it
def test_a_model_is_customized_three_times(chain: Chain, tmp_path: Path) -> None:
    first = chain.customize(1, BASE, "texts", "CONTINUED_PRE_TRAINING")
    second = chain.customize(2, first["outputModelArn"], "orders", "FINE_TUNING")
    third = chain.customize(3, f"{chain.mark}-2", "returns", "FINE_TUNING", loraRank="8")

    model = chain.bedrock.get_custom_model(modelIdentifier=f"{chain.mark}-1")
    assert model["customizationType"] == "CONTINUED_PRE_TRAINING"
    assert model["validationMetrics"][0]["validationLoss"] < 20
    curve = chain.output(first, "training_artifacts/step_wise_training_metrics.csv").decode().splitlines()
    assert curve[0] == "step_number,epoch_number,training_loss,perplexity"
    assert len(curve) > 1
    assert second["baseModelArn"] == first["outputModelArn"]
    assert chain.bedrock.get_custom_model(modelIdentifier=f"{chain.mark}-3")["baseModelArn"] == second["outputModelArn"]

    folders = [chain.weights(job, tmp_path / name) for job, name in ((first, "1"), (second, "2"), (third, "3"))]
    adapters = [LoraAdapter.read(folder) for folder in folders]
    assert [adapter.rank for adapter in adapters] == [16, 32, 40]
    logits = [ours(BUNDLED, adapter) for adapter in adapters]
    assert (logits[2] - logits[1]).abs().max() > 0.1
    assert (logits[1] - logits[0]).abs().max() > 0.1
    torch.testing.assert_close(theirs(BUNDLED, folders[2]), logits[2], atol=1e-3, rtol=1e-4)
    served = [chain.serve(f"{chain.mark}-{number}") for number in (1, 3)]
    said = [chain.answer(throughput, ASKED) for throughput in served]
    assert said[0] != said[1] == " Send it back in its blue crate."

    check_story(chain, third, [first, second])
    chain.bedrock.delete_custom_model(modelIdentifier=f"{chain.mark}-2")
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        chain.bedrock.get_custom_model(modelIdentifier=f"{chain.mark}-2")
    assert chain.answer(served[1], ASKED) == said[1]
    assert "deleted since" in chain.show(f"{chain.mark}-3")


def check_story(chain: Chain, job: dict[str, Any], before: list[dict[str, Any]]) -> None:
    """The lineage by the command and among the outputs, and that its hashes join the links."""
    told = json.loads(chain.show(job["outputModelArn"], "--json"))
    story = told["lineage"]
    assert story == json.loads(chain.output(job, "lineage.json")) == json.loads(chain.output(job, "model/lineage.json"))
    links = [*story["ancestors"], story]
    assert [link["customization"] for link in links] == ["CONTINUED_PRE_TRAINING", "FINE_TUNING", "FINE_TUNING"]
    assert [link["model_arn"] for link in links[:-1]] == [one["outputModelArn"] for one in before]
    assert [link["job_arn"] for link in links] == [one["jobArn"] for one in (*before, job)]
    for parent, child in pairwise(links):
        assert child["parent"] == {"arn": parent["model_arn"], "sha256": parent["result"]["sha256"]}
        assert child["base"]["sha256"] == parent["base"]["sha256"]
    assert told["model"]["baseModelArn"] == before[-1]["outputModelArn"]
    shown = chain.show(told["model"]["id"])
    for link in links:
        assert link["model_name"] in shown
        assert link["result"]["sha256"][:12] in shown
        assert link["datasets"][0]["sha256"][:12] in shown


def test_what_comes_of_a_whole_model_is_a_whole_model(chain: Chain, tmp_path: Path) -> None:
    chain.customize(1, BASE, "orders", "FINE_TUNING", epochCount="1", method="full")
    second = chain.customize(2, f"{chain.mark}-1", "returns", "FINE_TUNING", method="lora")
    folder = chain.weights(second, tmp_path / "2")
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "lineage.json"} <= names
    assert "adapter_config.json" not in names
    chain.bedrock.delete_custom_model(modelIdentifier=f"{chain.mark}-1")
    assert chain.answer(chain.serve(f"{chain.mark}-2"), ASKED)
    assert chain.show(f"{chain.mark}-2").count("sha256") >= 7


def ours(base: Path, adapter: LoraAdapter) -> torch.Tensor:
    """Logits of our own modules, float32."""
    model = load_model(base, torch.float32)
    switch = Adapters(model)
    switch.attach("x", adapter)
    switch.act("x")
    with torch.no_grad():
        logits: torch.Tensor = model(ids()).logits
    return logits


def theirs(base: Path, adapter: Path) -> torch.Tensor:
    """Logits of plain transformers and PEFT, float32."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), adapter)
    with torch.no_grad():
        logits: torch.Tensor = model(ids()).logits
    return logits


def ids() -> torch.Tensor:
    """The question's tokens by the bundled tokenizer."""
    from transformers import AutoTokenizer

    return torch.tensor([AutoTokenizer.from_pretrained(BUNDLED)(ASKED).input_ids])


def settled(ask: Callable[[], dict[str, Any]], state: str) -> dict[str, Any]:
    """The first answer whose status is another one."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        answer = ask()
        if answer["status"] != state:
            return answer
        time.sleep(0.1)
    raise AssertionError(f"still {state}")
