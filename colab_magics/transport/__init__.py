"""How bytes reach other places: ssh and hosts, Places, buckets, downloads."""
