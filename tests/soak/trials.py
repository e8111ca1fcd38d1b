"""The jobs that a soak runs: each way of training that has something of its own to lose. Data made here, no server.

Knows requests and records; nothing of kills.
"""

import json
from dataclasses import dataclass, field
from typing import Any, Final

TITAN: Final = "amazon.titan-text-express-v1"
COHERE: Final = "cohere.command-light-text-v14"


@dataclass(frozen=True, slots=True)
class Trial:
    """One job; `lines` by the key of its file: train, and maybe validation."""

    model: str
    kind: str
    lines: dict[str, list[str]]
    hyperparameters: dict[str, str] = field(default_factory=dict)

    def request(self, name: str, bucket: str, role: str) -> dict[str, Any]:
        """CreateModelCustomizationJob's parameters; its files lie under the trial's name in the bucket."""
        folder = f"s3://{bucket}/{name.rpartition('-')[0]}"
        validators = [{"s3Uri": f"{folder}/validation.jsonl"}]
        return {
            "jobName": name,
            "customModelName": name,
            "roleArn": role,
            "customizationType": self.kind,
            "baseModelIdentifier": self.model,
            "trainingDataConfig": {"s3Uri": f"{folder}/train.jsonl"},
            **({"validationDataConfig": {"validators": validators}} if "validation" in self.lines else {}),
            "outputDataConfig": {"s3Uri": f"s3://{bucket}/output/"},
            "hyperParameters": self.hyperparameters,
        }


def pairs(first: int, count: int) -> list[str]:
    """Prompt and completion; lengths differ, so that no two steps take the same time."""
    return [
        json.dumps(
            {
                "prompt": f"Customer: where is order {number}?" + " Please answer soon." * (number % 5) + "\nAgent:",
                "completion": f" Order {number} is on its way." + " It left yesterday." * (number % 3),
            }
        )
        for number in range(first, first + count)
    ]


def documents(first: int, count: int) -> list[str]:
    """Plain texts."""
    return [
        json.dumps({"input": f"Order {number} was sent. " + f"Parcel {number * 7} holds it. " * (1 + number % 9)})
        for number in range(first, first + count)
    ]


def trials(size: int) -> dict[str, Trial]:
    """Every trial by its name; `size` is about how many optimizer steps each has."""
    epochs = {"epochCount": "4"}
    titan = {**epochs, "batchSize": "2", "learningRateWarmupSteps": "5", "learningRate": "0.00001"}
    stopping = {"epochCount": "12", "batchSize": "8", "earlyStoppingPatience": "3", "evalPercentage": "20"}
    count = max(8, size // 2)
    return {
        "lora": Trial(
            TITAN,
            "FINE_TUNING",
            {"train": pairs(1000, count), "validation": pairs(5000, 32)},
            titan,
        ),
        "full": Trial(TITAN, "FINE_TUNING", {"train": pairs(1000, count)}, titan | {"method": "full"}),
        "pretraining": Trial(TITAN, "CONTINUED_PRE_TRAINING", {"train": documents(1000, count)}, titan),
        # Too high a rate: the hold-out's loss rises again, and the best weights are not the last.
        "stopping": Trial(
            COHERE,
            "FINE_TUNING",
            {"train": pairs(1000, max(40, size // 12 * 10 * 8 // 10))},
            {**stopping, "learningRate": "0.1"},
        ),
    }
