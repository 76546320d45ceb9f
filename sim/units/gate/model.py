"""What the patch gate must answer: plain Python from `docs/core.md`, not from the gateware."""

from __future__ import annotations

from collections.abc import Sequence


def top_k(scores: Sequence[int], keep: int) -> list[int]:
    """Numbers of the `keep` highest scores, ascending; ties go to the lower number."""
    order = sorted(range(len(scores)), key=lambda token: (-scores[token], token))
    return sorted(order[:keep])


def bisect(scores: Sequence[int], keep: int, bits: int) -> list[int]:
    """The same the way the gateware does it: the threshold bit by bit."""
    threshold = above = 0
    for bit in reversed(range(bits)):
        count = sum(score >= threshold | 1 << bit for score in scores)
        if count >= keep:
            threshold |= 1 << bit
        else:
            above = count
    ties = [token for token, score in enumerate(scores) if score == threshold][:keep - above]
    return sorted(ties + [token for token, score in enumerate(scores) if score > threshold])
