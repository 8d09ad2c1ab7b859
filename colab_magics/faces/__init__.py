"""The three faces: magics, shell and API read words, call one verb, show its result."""
