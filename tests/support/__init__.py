"""What tests share, one file per subject: material, models, servers, clients, browsers, streams of events."""
