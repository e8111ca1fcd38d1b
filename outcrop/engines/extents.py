"""Room on one long axis, handed out in stretches: taken, grown in place, given back. Pure; knows no tensors."""

from bisect import bisect_left


class Extents:
    """The free stretches of an axis of `size` places. First fit: what is touched stays small."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.free = size
        """Places that nobody holds, in however many stretches."""
        self._holes: list[tuple[int, int]] = [(0, size)] if size else []

    def take(self, length: int) -> int | None:
        """The start of a stretch of so many places; None where no hole is as long."""
        for index, (start, room) in enumerate(self._holes):
            if room >= length:
                self._holes[index : index + 1] = [(start + length, room - length)] if room > length else []
                self.free -= length
                return start
        return None

    def extend(self, end: int, more: int) -> bool:
        """Let a stretch that ends at `end` go on for so many places; False where something else stands there."""
        index = bisect_left(self._holes, (end, 0))
        if index == len(self._holes) or self._holes[index][0] != end or self._holes[index][1] < more:
            return False
        start, room = self._holes[index]
        self._holes[index : index + 1] = [(start + more, room - more)] if room > more else []
        self.free -= more
        return True

    def give(self, start: int, length: int) -> None:
        """Take back a stretch, or any part of one."""
        if not length:
            return
        self.free += length
        index = bisect_left(self._holes, (start, 0))
        end = start + length
        if index < len(self._holes) and self._holes[index][0] == end:
            end += self._holes.pop(index)[1]
        if index and sum(self._holes[index - 1]) == start:
            start = self._holes.pop(index - 1)[0]
            index -= 1
        self._holes.insert(index, (start, end - start))
