"""The conformance suite over every backend there is: what gpujob brings, and plugins as third parties write them."""
