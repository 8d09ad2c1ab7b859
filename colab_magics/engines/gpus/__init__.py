"""GPUs of this machine: which there are (`devices`), who has which (`leases`), who gets the next (`desk`)."""
