"""How soon nodes that know one contact each know all that can be reached, behind real NATs."""
