"""Where a job's files go under its output URI: names alone. Knows nothing of storage or of what the files hold."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a job's files go. One rule for slashes: one is put after the output URI unless it ends in one."""

    output: str
    job_id: str

    @property
    def prefix(self) -> str:
        """The output URI, ending in a slash."""
        return self.output if self.output.endswith("/") else self.output + "/"

    @property
    def probe(self) -> str:
        """The empty object that shows, before anything else, that the role may write here."""
        return self.prefix + ".write_access_check_file.temp"

    def file(self, name: str) -> str:
        """The URI of a file in the job's own folder."""
        return f"{self.prefix}model-customization-job-{self.job_id}/{name}"
