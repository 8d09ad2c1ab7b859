"""Files from elsewhere: where they come from, fetched whole and resumed, here or on a host that fetches them itself."""
