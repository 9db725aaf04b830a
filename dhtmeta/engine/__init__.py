"""Our own policy: what is cached, how a query is answered, how a record is published and judged."""
