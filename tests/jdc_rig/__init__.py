"""A pool and its declarator as scripts, for tests of the job declarator client."""
