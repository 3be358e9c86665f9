"""`tunesmith image`: the digest of an image, written into params.yaml."""

from tunesmith.runtime import docker, image, settings


def run(name: str) -> None:
    """Write the present digest of the image ``name`` to runtime.image. Raises ContainerError for a missing one."""
    digest = docker.resolve(docker.connect(), name)
    image.pin(digest)
    print(f"params.yaml: runtime.image: {digest}")
    if settings.engine() != "docker":
        print("next: set runtime.engine to docker there, since engine host runs stages in no image and refuses one")
