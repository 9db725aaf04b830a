"""Who is out there: from knowing nobody to peers that can be reached now."""
