"""A task whose clients refuse data that isn't theirs."""

from small import Small

from muster import Client, Data, DataError


class Placed(Small):
    """Each client's folder says whose it is."""

    def load_data(self, client: Client) -> Data:
        owner = (client.data_dir / "owner").read_text()
        if owner != client.name:
            raise DataError(f"{client.name} was given the data of {owner}")
        return super().load_data(client)
