"""Parts for tests of the declarator: owners, coinbases, templates and a machine to drive."""
