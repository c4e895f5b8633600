"""The one error that data can cause without anybody having made a mistake."""


class DataUnavailable(RuntimeError):
    """Data that should be there is not, or is damaged; the message is one line that says what to do."""
