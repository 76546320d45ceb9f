"""The one exception that commands turn into a one-line message and exit code 2."""


class SpikeTicketError(Exception):
    """Bad input, a network that does not fit, or a board that did not answer.

    The message names the bad value, where it was found, and the remedy.
    """
