"""First versions of plug-ins: templates that work as they are, and the tests of their contracts."""
