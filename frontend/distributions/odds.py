"""What distributions share that are given by `probs` or `logits` of a trial's success."""

from __future__ import annotations

from braze.distributions.utils import (
    Values,
    broadcast_all,
    lazy_property,
    logits_to_probs,
    one_given,
    probs_to_logits,
)


class Odds:
    """A distribution's `probs` and `logits`: the one given, and the other once it is read."""

    _param: Values

    def _keep_odds(self, probs: Values, logits: Values, *beside: Values) -> list[Values]:
        """Keep the one given, broadcast; returns what is broadcast beside it.

        Raises:
            ValueError: both or none are given.
        """
        name, given = one_given(probs, logits)
        *beside_it, self._param = broadcast_all(*beside, given)
        setattr(self, name, self._param)
        return beside_it

    @lazy_property
    def logits(self) -> Values:
        """The logarithm of the odds."""
        return probs_to_logits(self.probs, is_binary=True)

    @lazy_property
    def probs(self) -> Values:
        """The probability of success."""
        return logits_to_probs(self.logits, is_binary=True)
