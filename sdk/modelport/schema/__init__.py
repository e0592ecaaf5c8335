"""How things are written: files, requests and records, three faces of one declaration. The only user of marshmallow."""
