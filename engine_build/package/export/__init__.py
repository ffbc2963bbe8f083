"""One file a family: its modules made traceable, matching `runtime/plan/families`."""
