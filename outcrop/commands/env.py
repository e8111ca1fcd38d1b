"""outcrop env: the exports that point AWS's SDKs and CLI at the server."""

import shlex

from rich.markup import escape

from outcrop.commands.options import Data, error_console, settings_from
from outcrop.directory import DataDirectory


def env(data: Data = None) -> None:
    """Print exports for AWS's SDKs and CLI: eval "$(outcrop env)".

    They point every AWS client of this shell at the server that runs on the data directory, with its key.
    """
    from outcrop.listen import endpoint_at

    settings = settings_from(data=data)
    directory = DataDirectory(settings.data.absolute())
    credentials = directory.read_credentials()
    running = directory.running()
    if running is None:
        error_console().print(
            f"note: no server runs on {escape(str(directory.root))}; the endpoint is the one it would have"
        )
    endpoint = running.endpoint if running else endpoint_at(settings.host, settings.port)
    exports = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": credentials.access_key,
        "AWS_SECRET_ACCESS_KEY": credentials.secret,
        "AWS_DEFAULT_REGION": credentials.region,
    }
    for name, value in exports.items():
        print(f"export {name}={shlex.quote(value)}")
    # A profile or a session token of another account would win over the keys, or be sent beside them.
    print("unset AWS_PROFILE AWS_SESSION_TOKEN AWS_BEARER_TOKEN_BEDROCK")
