"""What decides whether a tracker and a signer are believed: known histories, and files of keys."""
