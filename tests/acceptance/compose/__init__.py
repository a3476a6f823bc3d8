"""docker-compose.yml and the image, tried without Docker: read as Compose would, run as processes."""
