"""Package names and the wire code, which pyproject.toml cannot compute: `pip install` runs protoc here."""

from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py


class BuildWire(build_py):
    """Generates the protobuf code next to its sources, then builds as usual."""

    def run(self) -> None:
        from grpc_tools import protoc

        sources = sorted(str(path) for path in Path("proto").rglob("*.proto"))
        well_known = str(Path(protoc.__file__).parent / "_proto")
        arguments = ["protoc", "-Iproto", f"-I{well_known}"]
        services = [source for source in sources if "\nservice " in Path(source).read_text(encoding="utf-8")]
        messages = [*arguments, "--python_out=proto", "--mypy_out=proto", *sources]
        calls = [*arguments, "--grpc_python_out=proto", "--mypy_grpc_out=proto", *services]
        if protoc.main(messages) != 0 or protoc.main(calls) != 0:
            raise SystemExit("protoc failed; its message is above")
        super().run()


setup(
    cmdclass={"build_py": BuildWire},
    packages=[
        "deepgen.v1",
        *(f"deepgen.{name}" for name in find_packages(include=["kernel*", "plugins*", "controller*"])),
    ],
)
