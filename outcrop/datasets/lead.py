"""What a chat template writes before an answer and an engine says as part of it, taken off as the answer comes."""


class Lead:
    """White space before an answer that is no part of it, taken off a stream's first pieces. lead: "" for none."""

    def __init__(self, lead: str) -> None:
        self._lead, self._begun = lead, ""

    def off(self, text: str) -> str:
        """What of a piece may be shown; what is only a part of the lead so far is kept until it is known."""
        if not self._lead:
            return text
        text, self._begun = self._begun + text, ""
        if self._lead.startswith(text) and text != self._lead:
            self._begun = text
            return ""
        lead, self._lead = self._lead, ""
        return text.removeprefix(lead)

    def rest(self) -> str:
        """What was kept, once no piece follows."""
        rest, self._begun = self._begun, ""
        return rest
