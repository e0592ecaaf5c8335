"""What people say: the methods of `ml_client.online_endpoints` and its kin."""
