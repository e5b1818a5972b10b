"""Why a request failed or took long: the last ones are kept, and told with what to look at next."""
