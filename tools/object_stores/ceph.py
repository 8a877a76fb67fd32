"""Ceph's RADOS gateway: a real S3 server that checks signatures and conditions.

A cluster of one: a monitor that knows who takes part, a store that keeps objects in memory, and the
gateway that speaks S3. The gateway sends small answers at once (``tcp_nodelay``); by default each
of them would wait for some 40 ms until the client has acknowledged the one before.
"""

from __future__ import annotations

import shutil
import uuid

from object_stores.process import (
    LOOPBACK,
    Connection,
    Server,
    apt_install,
    free_port,
    run,
    wait_for,
)
from object_stores.s3 import KEY, SECRET, make_bucket

PACKAGES = ("radosgw", "ceph-mon", "ceph-osd", "ceph-common", "iproute2")
PROGRAMS = ("radosgw", "ceph-mon", "ceph-osd", "monmaptool", "ceph", "radosgw-admin", "ss")

CONFIGURATION = """\
[global]
fsid = {cluster}
mon_host = [v2:{loopback}:{mon_v2},v1:{loopback}:{mon_v1}]
public_network = 127.0.0.0/8
cluster_network = 127.0.0.0/8
ms_bind_ipv6 = false
ms_mon_client_mode = crc
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
auth_allow_insecure_global_id_reclaim = false
run_dir = {folder}/run
admin_socket = {folder}/run/$name.asok
log_file = {folder}/log/$name.log
pid_file = {folder}/$name.pid
keyring = {folder}/keyring
mon_data = {folder}/mon
osd_data = {folder}/osd
rgw_data = {folder}/rgw
mon_data_avail_warn = 2
mon_data_avail_crit = 1
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 2000
osd_crush_chooseleaf_type = 0
osd_objectstore = memstore
memstore_device_bytes = 4294967296
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 4
osd_pool_default_pgp_num = 4
rgw_frontends = beast endpoint={loopback}:{port} tcp_nodelay=1
rgw_run_sync_thread = false
rgw_enable_lc_threads = false
rgw_enable_usage_log = false
"""


class Ceph(Server):
    """The gateway and what stands behind it."""

    name = "ceph"
    title = "Ceph's RADOS gateway"
    prefix = "ICECHUNK_TEST_S3_"

    @classmethod
    def lacking(cls) -> list[str]:
        """Name the programs that are not installed."""
        return [program for program in PROGRAMS if shutil.which(program) is None]

    @classmethod
    def install(cls) -> None:
        """Install the programs of Debian or Ubuntu, as root."""
        if cls.lacking():
            apt_install(PACKAGES)

    def _prepare(self, port: int) -> Connection:
        return make_bucket(port)

    def _launch(self, port: int) -> None:
        for name in ("mon", "osd", "rgw", "run", "log"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
            (self.folder / name).mkdir()
        mon_v2, mon_v1 = free_port(), free_port()
        cluster = str(uuid.uuid4())
        configuration = self.folder / "ceph.conf"
        configuration.write_text(
            CONFIGURATION.format(
                cluster=cluster,
                folder=self.folder,
                loopback=LOOPBACK,
                mon_v1=mon_v1,
                mon_v2=mon_v2,
                port=port,
            )
        )
        (self.folder / "keyring").touch()
        addresses = f"[v2:{LOOPBACK}:{mon_v2},v1:{LOOPBACK}:{mon_v1}]"
        monmap = str(self.folder / "monmap")
        # The tool reads no configuration but the one of the system, which may not exist.
        run(
            "monmaptool",
            "--create",
            "--clobber",
            "--fsid",
            cluster,
            "--addv",
            "a",
            addresses,
            monmap,
        )

        def ceph(program: str, *arguments: str) -> str:
            return run(program, "-c", str(configuration), *arguments)

        ceph("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap)
        ceph("ceph-mon", "-i", "a")
        store = str(uuid.uuid4())
        ceph("ceph", "osd", "new", store)
        ceph("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", store)
        ceph("ceph-osd", "-i", "0")
        wait_for(lambda: "1 up" in ceph("ceph", "osd", "stat"), "the store does not come up")
        names = (f"--uid={KEY}", f"--display-name={KEY}")
        keys = (f"--access-key={KEY}", f"--secret-key={SECRET}")
        ceph("radosgw-admin", "user", "create", *names, *keys)
        ceph("radosgw", "-n", "client.rgw")
