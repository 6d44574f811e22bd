"""Parts that know words and sounds: conditioners, which say to a network what it is asked for, and judges."""
