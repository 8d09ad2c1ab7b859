"""How bytes reach other places: ssh, Places."""
