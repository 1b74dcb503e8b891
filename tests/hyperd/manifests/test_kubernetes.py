"""Kubernetes' manifests: what they become, with its own defaults, and what is refused or told."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from hyperd import spec
from hyperd.api.views import shown_container
from hyperd.errors import InvalidError
from hyperd.manifests import load

from .samples import Json, config_map, container, first, one, pod, read, text


def test_a_deployment_with_all_that_tutorials_have() -> None:
    loaded = load(text("deployment.yaml"))
    (made,) = loaded.pods
    (web,) = made.containers
    (prepare,) = made.init_containers
    assert (made.name, made.restart, made.fs_group, made.termination_grace_s) == ("web", "always", 2000, 30)
    assert made.labels == {"app": "web", "tier": "frontend"}
    assert prepare.command[2].endswith("echo web >> /work/index.html")
    assert dict(web.environment) == {
        "CONFIG_GREETING": "hello from the config map", "CONFIG_index.html": "<h1>It works</h1>\n", "CONFIG_site.conf": "listen 8080\n",
        "PASSWORD": "s3cr3t", "DSN": "db://$(USER_NAME):s3cr3t@db/$x", "USER_NAME": "admin", "MEMORY_LIMIT": "64",
    }  # fmt: skip
    assert web.resources == spec.Resources(
        cpus=0.5, cpu_shares=102, memory=64 << 20, request_cpus=0.1, request_memory=32 << 20
    )
    assert web.security.user == "1000" and web.security.run_as_non_root and web.security.no_new_privileges
    assert (web.security.drop_capabilities, web.security.add_capabilities) == (("ALL",), ("CAP_NET_BIND_SERVICE",))
    assert web.startup_probe == spec.Probe(http=spec.HttpGet(port=8080), period_s=1, failures=30)
    assert (
        web.readiness_probe and web.readiness_probe.http and web.readiness_probe.http.headers == (("X-Probe", "ready"),)
    )
    assert web.liveness_probe == spec.Probe(tcp_port=8080)
    assert web.pre_stop == spec.Handler(command=("sleep", "1"))
    assert web.mounts[1] == spec.Mount(volume="config", path="/etc/site.conf", sub_path="site.conf", read_only=True)
    sources = {volume.name: volume.source for volume in made.volumes}
    assert sources["work"] == spec.EmptyDir(size=64 << 20)
    assert isinstance(sources["secret"], spec.Projected) and sources["secret"].secret
    assert {file.path: (file.content, file.mode) for file in sources["secret"].files} == {
        "password": ("s3cr3t", 0o400),
        "user": ("admin", 0o400),
    }
    assert loaded.warnings == ()
    assert made.interfaces[0].aliases == ("web", "web.default", "web.default.svc", "web.default.svc.cluster.local")


def test_a_pod_with_a_sidecar_and_configs_from_another_file() -> None:
    loaded = load(text("sidecar.yaml"), configs=[text("configs.yaml")])
    (made,) = loaded.pods
    assert made.init_containers[0].restart == "always" and made.init_containers[0].pull == "missing"
    app = made.containers[0]
    assert app.pull == "always"
    assert app.fields == (("POD_IP", "pod-ip"),)
    assert app.args == ("--listen=http://$(POD_IP):2380", "--name=logger", "$$HOME")
    assert app.environment == (("POD_NAME", "logger"), ("URL", "http://$(POD_IP)/logger"))
    sources = {volume.name: volume.source for volume in made.volumes}
    assert sources["logs"] == spec.EmptyDir(medium="memory", size=16 << 20)
    assert sources["data"] == spec.Named(name="data", size=1 << 30)
    assert isinstance(sources["all"], spec.Projected)
    assert [(file.path, file.content, file.mode) for file in sources["all"].files] == [
        ("conf/a.conf", "a = 1\n", 0o440), ("labels", 'app="logger"', 0o440)
    ]  # fmt: skip
    assert made.dns == spec.Dns(
        policy="none", servers=("192.0.2.53",), searches=("example.com",), options=("ndots:2", "edns0")
    )
    assert made.host_aliases == (spec.HostAlias(ip="192.0.2.10", names=("db", "db.example.com")),)
    assert made.share_pids and made.restart == "on-failure" and made.namespace == "tools"
    assert [warning for warning in loaded.warnings if "nodeSelector" in warning]


def test_workloads() -> None:
    loaded = load(text("jobs.yaml"))
    assert [made.name for made in loaded.pods] == ["pi", "hello", "db-0", "db-1"]
    pi, hello, db, _ = loaded.pods
    assert (pi.active_deadline_s, pi.restart, hello.restart) == (100, "never", "on-failure")
    assert db.volumes == (spec.Volume(name="www", source=spec.Named(name="www-db-0", size=2 << 30)),)
    assert len(loaded.warnings) == 2
    assert db.interfaces == (spec.Interface(aliases=("db-0.db", "db-0.db.default", "db-0.db.default.svc", "db-0.db.default.svc.cluster.local")),)


def test_defaults() -> None:
    made = one(pod())
    assert (made.restart, made.termination_grace_s, made.hostname, made.share_pids) == ("always", 30, "p", False)
    assert made.containers[0] == spec.Container(name="c", image="busybox:1")
    assert one({**pod(), "metadata": {"generateName": "job-"}}).name == "job-x2x2x"
    assert one(pod(volumes=[{"name": "v", "emptyDir": None}])).volumes[0].source == spec.EmptyDir()


@pytest.mark.parametrize(
    ("image", "pull"),
    [
        ("a", "always"),
        ("a:latest", "always"),
        ("a:1", "missing"),
        ("h:5000/a", "always"),
        ("h:5000/a:1", "missing"),
        ("a@sha256:00", "missing"),
    ],
)
def test_when_images_are_pulled(image: str, pull: str) -> None:
    assert first(pod(container(image=image))).pull == pull
    assert first(pod(container(image=image, imagePullPolicy="Never"))).pull == "never"


def test_variables_in_their_order() -> None:
    env = [
        {"name": "A", "value": "1"}, {"name": "B", "value": "$(A)$(C)"}, {"name": "C", "value": "$$(A)"}, {"name": "FROM", "value": "$(x)"},
        {"name": "A", "value": "2"},
    ]  # fmt: skip
    made = first(
        config_map(x="from", A="never"),
        pod(container(env=env, envFrom=[{"configMapRef": {"name": "cm"}}], command=["$(A)", "$(NO)"])),
    )
    assert dict(made.environment) == {"A": "2", "B": "1$(C)", "C": "$(A)", "x": "from", "FROM": "from"}
    assert made.command == ("2", "$(NO)")


def test_optional_references() -> None:
    env = [
        {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "none", "key": "k", "optional": True}}},
        {"name": "B", "valueFrom": {"secretKeyRef": {"name": "cm", "key": "k", "optional": True}}},
    ]
    volumes: list[Json] = [{"name": "v", "secret": {"secretName": "no", "optional": True}}]
    made = one(pod(container(env=env, envFrom=[{"secretRef": {"name": "no", "optional": True}}]), volumes=volumes))
    assert made.containers[0].environment == ()
    assert made.volumes[0].source == spec.Projected(secret=True)


def test_secrets_that_are_no_text() -> None:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s"},
        "data": {"k": base64.b64encode(b"\xff\0").decode()},
    }
    made = one(
        secret,
        pod(
            volumes=[{"name": "v", "secret": {"secretName": "s", "items": [{"key": "k", "path": "a/b", "mode": 256}]}}]
        ),
    )
    assert made.volumes[0].source == spec.Projected(
        files=(spec.File(path="a/b", content="/wA=", encoding="base64", mode=0o400),), secret=True
    )
    with pytest.raises(InvalidError, match=r"secretKeyRef.key: 'k' is not UTF-8"):
        read(secret, pod(container(env=[{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}])))


def test_the_container_goes_before_the_pod() -> None:
    own = {"runAsUser": 7, "runAsNonRoot": False, "seccompProfile": {"type": "Unconfined"}}
    shared = {
        "runAsUser": 5,
        "runAsGroup": 6,
        "runAsNonRoot": True,
        "supplementalGroups": [8, 9],
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    made = one(pod(container(securityContext=own), container(name="d"), securityContext=shared))
    assert made.containers[0].security == spec.Security(
        user="7", group="6", additional_groups=("8", "9"), seccomp="unconfined"
    )
    assert made.containers[1].security == spec.Security(
        user="5", group="6", additional_groups=("8", "9"), run_as_non_root=True
    )


def test_a_list() -> None:
    loaded = read(
        {
            "apiVersion": "v1",
            "kind": "List",
            "items": [config_map(a="1"), pod(container(envFrom=[{"configMapRef": {"name": "cm"}}]))],
        }
    )
    assert loaded.pods[0].containers[0].environment == (("a", "1"),)


def test_the_limits_of_the_whole_pod_are_the_machines() -> None:
    made = one(pod(resources={"limits": {"cpu": "1500m", "memory": "300Mi"}}))
    assert (made.vcpus, made.memory_mib) == (2, 300)


WARNED: list[tuple[Json, str]] = [
    ({"nodeName": "n"}, "spec.nodeName is ignored"),
    ({"affinity": {"nodeAffinity": {}}}, "spec.affinity is ignored"),
    ({"tolerations": [{"operator": "Exists"}]}, "spec.tolerations is ignored"),
    ({"serviceAccountName": "x"}, "spec.serviceAccountName is ignored"),
    ({"imagePullSecrets": [{"name": "x"}]}, "spec.imagePullSecrets is ignored"),
    ({"hostUsers": False}, "spec.hostUsers is ignored"),
    ({"subdomain": "x"}, "spec.subdomain is ignored"),
    ({"securityContext": {"seLinuxOptions": {"level": "s0"}}}, "spec.securityContext.seLinuxOptions is ignored"),
    ({"containers": [container(terminationMessagePath="/x")]}, "spec.containers[0].terminationMessagePath is ignored"),
    (
        {"containers": [container(securityContext={"appArmorProfile": {"type": "RuntimeDefault"}})]},
        "spec.containers[0].securityContext.appArmorProfile is ignored",
    ),
    (
        {"containers": [container(resizePolicy=[{"resourceName": "cpu", "restartPolicy": "RestartContainer"}])]},
        "spec.containers[0].resizePolicy[0] is ignored",
    ),
]


@pytest.mark.parametrize(("members", "message"), WARNED, ids=[message for _, message in WARNED])
def test_warned(members: Json, message: str) -> None:
    document = pod()
    document["spec"] |= members
    (warning,) = read(document).warnings
    assert warning.startswith(message)


def c(**members: Any) -> Json:
    return {"containers": [container(**members)]}


def v(**source: Any) -> Json:
    return {"volumes": [{"name": "v", **source}]}


REFUSED: list[tuple[Json, str]] = [
    (c(ports=[{"containerPort": 1}, {"containerPort": 70000}]), "spec.containers[0].ports[1].containerPort: 70000 is not a port"),
    (c(ports=[{"containerPort": "80"}]), "spec.containers[0].ports[0].containerPort: expected int, got str"),
    (c(ports=[{"containerPort": 1, "protocol": "tcp"}]), "spec.containers[0].ports[0].protocol: 'tcp' is none of TCP, UDP, SCTP"),
    (c(ports=[{"containerPort": 1, "hostIP": "x"}]), "spec.containers[0].ports[0].hostIP: 'x' is not an IP address"),
    (c(ports=[{"containerPort": 1, "name": "a"}, {"containerPort": 2, "name": "a"}]), "spec.containers[0].ports[1].name: the port 'a' is there already, as spec.containers[0].ports[0].name"),
    (c(image=""), "spec.containers[0].image: '' is not the name of an image"),
    (c(name="A"), "spec.containers[0].name: 'A' is not a DNS label"),
    (c(imagPullPolicy="Never"), "spec.containers[0]: unknown field imagPullPolicy"),
    (c(imagePullPolicy="never"), "spec.containers[0].imagePullPolicy: 'never' is none of Always, IfNotPresent, Never"),
    (c(env=[{"name": "A", "value": True}]), "spec.containers[0].env[0].value: expected str | null, got bool"),
    (c(env=[{"name": "", "value": "x"}]), "spec.containers[0].env[0].name: '' is not the name of a variable"),
    (c(env=[{"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]), "spec.containers[0].env[0]: only one of value and valueFrom can be given"),
    (c(env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.x"}}}]), "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: 'spec.x' is not a field that a pod can be told"),
    (c(env=[{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}]), "spec.containers[0].env[0].valueFrom.resourceFieldRef.resource: container 'c' has no limit of cpu"),
    (c(env=[{"name": "A", "valueFrom": {}}]), "spec.containers[0].env[0].valueFrom: needs one of configMapKeyRef, secretKeyRef, fieldRef, resourceFieldRef, fileKeyRef"),
    (c(env=[{"name": "A", "valueFrom": {"secretKeyRef": {"name": "no", "key": "k"}}}]), "spec.containers[0].env[0].valueFrom.secretKeyRef.name: there is no Secret 'no'"),
    (c(envFrom=[{"configMapRef": {"name": "no"}}]), "spec.containers[0].envFrom[0].configMapRef.name: there is no ConfigMap 'no'"),
    (c(volumeMounts=[{"name": "no", "mountPath": "/x"}]), "spec.containers[0].volumeMounts[0].name: there is no volume 'no'"),
    (c(volumeDevices=[{"name": "x", "devicePath": "/dev/x"}]), "spec.containers[0].volumeDevices is not supported"),
    (c(resources={"limits": {"memory": "128m"}}), "containers[0].resources.memory: 1 bytes are too few for a container"),
    (c(resources={"limits": {"cpu": "half"}}), "spec.containers[0].resources.limits.cpu: 'half' is not a quantity"),
    (c(resources={"limits": {"cpu": 1}, "requests": {"cpu": 2}}), "spec.containers[0].resources.requests.cpu: 2 is more than the limit, 1"),
    (c(resources={"limits": {"nvidia.com/gpu": 1}}), "spec.containers[0].resources.limits.nvidia.com/gpu is not supported"),
    (c(livenessProbe={}), "spec.containers[0].livenessProbe: needs one of exec, httpGet, tcpSocket, grpc"),
    (c(livenessProbe={"exec": {"command": ["a"]}, "tcpSocket": {"port": 1}}), "spec.containers[0].livenessProbe: only one of exec and tcpSocket can be given"),
    (c(livenessProbe={"httpGet": {"port": "web"}}), "spec.containers[0].livenessProbe.httpGet.port: 'web' is not the name of a port of this container"),
    (c(livenessProbe={"tcpSocket": {"port": 1}, "successThreshold": 2}), "spec.containers[0].livenessProbe.successThreshold: must be 1"),
    (c(readinessProbe={"tcpSocket": {"port": 0}}), "spec.containers[0].readinessProbe.tcpSocket.port: 0 is not a port"),
    (c(readinessProbe={"tcpSocket": {"port": 1}, "periodSeconds": -1}), "spec.containers[0].readinessProbe.periodSeconds: -1 is not a number from 0 to 2147483647"),
    (c(lifecycle={"preStop": {"tcpSocket": {"port": 1}}}), "spec.containers[0].lifecycle.preStop.tcpSocket is not supported"),
    (c(lifecycle={"preStop": {}}), "spec.containers[0].lifecycle.preStop: needs one of exec, httpGet, tcpSocket, sleep"),
    (c(securityContext={"capabilities": {"add": ["NET_FOO"]}}), "spec.containers[0].securityContext.capabilities.add[0]: 'NET_FOO' is not a capability"),
    (c(securityContext={"runAsUser": 0, "runAsNonRoot": True}), "spec.containers[0].securityContext.runAsUser: 0 is root"),
    (c(securityContext={"runAsUser": -1}), "spec.containers[0].securityContext.runAsUser: -1 is not an id"),
    (c(securityContext={"privileged": True, "allowPrivilegeEscalation": False}), "spec.containers[0].securityContext.allowPrivilegeEscalation: cannot be false"),
    (c(securityContext={"seccompProfile": {"type": "Localhost", "localhostProfile": "x"}}), "spec.containers[0].securityContext.seccompProfile.type: Localhost is not supported"),
    ({"containers": []}, "spec.containers: a pod needs at least one container"),
    ({"containers": [container(), container()]}, "spec.containers[1].name: the container 'c' is there already, as spec.containers[0].name"),
    ({"initContainers": [container()]}, "spec.containers[0].name: the container 'c' is there already, as spec.initContainers[0].name"),
    ({"initContainers": [container(name="i", livenessProbe={"tcpSocket": {"port": 1}})]}, "spec.initContainers[0].livenessProbe: an init container can only have one"),
    ({"hostNetwork": True}, "spec.hostNetwork cannot be honoured"),
    ({"hostPID": True}, "spec.hostPID cannot be honoured"),
    ({"hostIPC": True}, "spec.hostIPC cannot be honoured"),
    ({"os": {"name": "windows"}}, "spec.os.name: 'windows' cannot be honoured"),
    ({"restartPolicy": "always"}, "spec.restartPolicy: 'always' is none of Always, OnFailure, Never"),
    ({"hostname": "a.b"}, "spec.hostname: 'a.b' is not a DNS label"),
    ({"terminationGracePeriodSeconds": -1}, "spec.terminationGracePeriodSeconds: -1 is not a number of seconds"),
    ({"activeDeadlineSeconds": 0}, "spec.activeDeadlineSeconds: 0 is not a positive number of seconds"),
    ({"dnsPolicy": "None"}, "spec.dnsConfig.nameservers: dnsPolicy None needs at least one"),
    ({"hostAliases": [{"ip": "x", "hostnames": ["a"]}]}, "spec.hostAliases[0].ip: 'x' is not an IP address"),
    ({"securityContext": {"sysctls": [{"name": "a b", "value": "1"}]}}, "spec.securityContext.sysctls[0].name: 'a b' is not a sysctl"),
    ({"volumes": [{"name": "v", "emptyDir": {}}, {"name": "v", "emptyDir": {}}]}, "spec.volumes[1].name: the volume 'v' is there already"),
    (v(nfs={"server": "x", "path": "/"}), "spec.volumes[0].nfs is not supported"),
    (v(emptyDir={}, hostPath={"path": "/x"}), "spec.volumes[0]: only one of emptyDir and hostPath can be given"),
    (v(emptyDir={"medium": "HugePages"}), "spec.volumes[0].emptyDir.medium: 'HugePages' is not supported"),
    (v(hostPath={"path": "x"}), "spec.volumes[0].hostPath.path: 'x' is not an absolute path"),
    (v(hostPath={"path": "/x", "type": "Dir"}), "spec.volumes[0].hostPath.type: 'Dir' is none of"),
    (v(configMap={"name": "cm", "defaultMode": 644}), "spec.volumes[0].configMap.defaultMode: 644 is not a mode"),
    (v(configMap={"name": "cm", "items": [{"key": "a", "path": "../x"}]}), "spec.volumes[0].configMap.items[0].path: '../x' must not contain '..'"),
    (v(configMap={"name": "cm", "items": [{"key": "no", "path": "x"}]}), "spec.volumes[0].configMap.items[0].key: there is no key 'no'"),
    (v(configMap={"name": "cm", "items": [{"key": "a", "path": "x"}, {"key": "a", "path": "./x"}]}), "spec.volumes[0].configMap: the file 'x' is there twice"),
    (v(configMap={"name": "cm", "items": [{"key": "a", "path": "x"}, {"key": "a", "path": "x/y"}]}), "spec.volumes[0].configMap: 'x' is a file and a folder"),
    (v(projected={"sources": [{"serviceAccountToken": {"path": "x"}}]}), "spec.volumes[0].projected.sources[0].serviceAccountToken is not supported"),
    (v(downwardAPI={"items": [{"path": "x", "fieldRef": {"fieldPath": "status.podIP"}}]}), "spec.volumes[0].downwardAPI.items[0].fieldRef.fieldPath: status.podIP cannot be put into a file"),
    ({"containers": [container(volumeMounts=[{"name": "v", "mountPath": "/a"}, {"name": "v", "mountPath": "/a/"}])], "volumes": [{"name": "v"}]}, "spec.containers[0].volumeMounts[1].mountPath: the mount at '/a' is there already"),
    ({"containers": [container(volumeMounts=[{"name": "v", "mountPath": "/a", "subPath": "../x"}])], "volumes": [{"name": "v"}]}, "spec.containers[0].volumeMounts[0].subPath: '../x' must not contain '..'"),
    ({"containers": [container(volumeMounts=[{"name": "v", "mountPath": "/a", "subPath": "x", "subPathExpr": "y"}])], "volumes": [{"name": "v"}]}, "spec.containers[0].volumeMounts[0]: only one of subPath and subPathExpr"),
    ({"containers": [container(volumeMounts=[{"name": "v", "mountPath": "/a", "subPathExpr": "$(NO)"}])], "volumes": [{"name": "v"}]}, "spec.containers[0].volumeMounts[0].subPathExpr: 'NO' is not a variable"),
    ({"containers": [container(ports=[{"containerPort": 1, "hostPort": 5}]), container(name="d", ports=[{"containerPort": 2, "hostPort": 5}])]}, "spec.containers[1].ports[0].hostPort: the port of the host"),
    ({"nonsense": 1}, "spec: unknown field nonsense"),
]  # fmt: skip


@pytest.mark.parametrize(("members", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_refused(members: Json, message: str) -> None:
    document = pod()
    document["spec"] |= members
    data = config_map(a="1")
    with pytest.raises(InvalidError) as caught:
        read(document, data)
    text = str(caught.value)
    assert text.removeprefix("document 1 (Pod p): ").startswith(message), text


def deployment(**members: Any) -> Json:
    body = {
        "replicas": 1,
        "selector": {"matchLabels": {"app": "x"}},
        "template": {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [container()]}},
    }
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {**body, **members}}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({**pod(), "apiVersion": "v2"}, "apiVersion: 'v2' has no Pod; it is in v1"),
        ({**deployment(), "apiVersion": "extensions/v1beta1"}, "apiVersion: 'extensions/v1beta1' has no Deployment"),
        ({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "x"}}, "kind: 'Node' is not supported"),
        ({"apiVersion": "v1"}, "kind: missing"),
        ({"kind": "Pod"}, "apiVersion: missing"),
        ({**pod(), "metadata": {}}, "metadata.name: missing"),
        ({**pod(), "metadata": {"name": "a/b"}}, "metadata.name: 'a/b' is not a DNS name"),
        ({**pod(), "metadata": {"name": "p", "labels": {"a": "b c"}}}, "metadata.labels[a]: 'b c' is not the value of a label"),
        ({**pod(), "spec": None}, "the document: missing field spec"),
        (deployment(selector={"matchLabels": {"app": "y"}}), "spec.template.metadata.labels: do not match spec.selector.matchLabels: app=y"),
        (deployment(selector={}), "spec.selector: must not be empty"),
        (deployment(replicas=-1), "spec.replicas: -1 is not a number from 0 to 100"),
        (deployment(template={"spec": {"containers": [container(image=" ")]}, "metadata": {"labels": {"app": "x"}}}), "spec.template.spec.containers[0].image: ' ' is not"),
        ({"apiVersion": "v1", "kind": "List", "items": [pod(), pod(container(image=""))]}, "item 2 (Pod p): spec.containers[0].image: '' is not"),
    ],
)  # fmt: skip
def test_refused_documents(document: Json, message: str) -> None:
    with pytest.raises(InvalidError) as caught:
        read(document)
    assert str(caught.value).startswith(message)


def test_replicas() -> None:
    assert [made.name for made in read(deployment(replicas=2)).pods] == ["d-0", "d-1"]
    none = read(deployment(replicas=0))
    assert none.pods == () and none.warnings == ("spec.replicas is 0: no pod is made",)
    assert [made.name for made in read({**deployment(), "kind": "DaemonSet"}).pods] == ["d"]


def test_secrets_are_for_pods_of_their_namespace() -> None:
    with pytest.raises(InvalidError, match="there is no ConfigMap"):
        read(
            {
                **pod(container(envFrom=[{"configMapRef": {"name": "cm"}}])),
                "metadata": {"name": "p", "namespace": "other"},
            },
            config_map(a="1"),
        )


def test_a_config_file_has_no_pods() -> None:
    with pytest.raises(
        InvalidError, match=r"config document 1 .*: a config file has ConfigMaps and Secrets, not a Pod"
    ):
        load(text("sidecar.yaml"), configs=[text("sidecar.yaml")])


def test_variables_do_not_explode() -> None:
    env = [{"name": "V0", "value": "x" * 100}] + [
        {"name": f"V{index}", "value": f"$(V{index - 1})" * 10} for index in range(1, 12)
    ]
    with pytest.raises(InvalidError, match=r"env\[4\].value: longer than"):
        read(pod(container(env=env)))


def test_a_variable_that_is_late_and_early() -> None:
    late = {"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
    for env in ([late, {"name": "A", "value": "x"}], [{"name": "A", "value": "x"}, late]):
        with pytest.raises(InvalidError, match=r"env\[1\].name: 'A' is there already"):
            read(pod(container(env=env)))


def service(name: str = "s", **members: Any) -> Json:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"selector": {"app": "x"}, "ports": [{"port": 80}], **members}}


def test_services_give_their_pods_a_name() -> None:
    loaded = read(service(), service("other", selector={"app": "y"}), service("more", clusterIP="None", ports=[]), deployment(replicas=2))
    assert loaded.warnings == ()
    for made in loaded.pods:
        assert [name for name in made.interfaces[0].aliases if "." not in name] == ["s", "more"]
    (elsewhere,) = read({**service(), "metadata": {"name": "s", "namespace": "n"}}, deployment()).pods
    assert elsewhere.interfaces == (spec.Interface(),)


@pytest.mark.parametrize(
    ("members", "warning"),
    [
        ({"type": "NodePort"}, "spec.type NodePort is ignored"),
        ({"ports": [{"port": 80, "targetPort": 8080}]}, "spec.ports[0].port 80 is not carried to 8080: ask the pods for 8080"),
        ({"selector": None}, "a Service without a selector is ignored"),
    ],
)
def test_what_services_do_not_do(members: Json, warning: str) -> None:
    (found,) = read(service(**members), pod()).warnings
    assert found.startswith("document 1 (Service s): " + warning)


def test_a_replication_controller() -> None:
    controller = {**deployment(replicas=2, selector={"app": "x"}), "apiVersion": "v1", "kind": "ReplicationController"}
    assert [made.name for made in read(controller).pods] == ["d-0", "d-1"]
    with pytest.raises(InvalidError, match="do not match"):
        read({**controller, "spec": {**controller["spec"], "selector": {"app": "y"}}})
    del controller["spec"]["selector"]
    assert len(read(controller).pods) == 2


def test_variables_from_secrets_are_known_as_such() -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"password": "hunter2", "user": "me"}}
    env: list[Json] = [
        {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "s", "key": "password"}}},
        {"name": "URL", "value": "db://$(PASSWORD)@db"},
        {"name": "user", "value": "not secret any more"},
    ]
    made = read(secret, pod(container(env=env, envFrom=[{"secretRef": {"name": "s"}}], args=["--password=$(PASSWORD)"]))).pods[0].containers[0]
    assert set(made.secrets) == {"PASSWORD", "password"}
    shown = shown_container(made)
    assert dict(shown.environment) == {"PASSWORD": "***", "password": "***", "URL": "db://***@db", "user": "not secret any more"}
    assert shown.args == ("--password=***",) and "hunter2" not in repr(shown)


@pytest.mark.parametrize(("policy", "limit", "restart", "retries"), [
    ("OnFailure", None, "on-failure", 6), ("OnFailure", 2, "on-failure", 2), ("OnFailure", 0, "never", 0), ("Never", 4, "never", 0),
])  # fmt: skip
def test_a_job_gives_up(policy: str, limit: int | None, restart: str, retries: int) -> None:
    template = {"spec": {"containers": [container()], "restartPolicy": policy}}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"}, "spec": {"template": template} | ({} if limit is None else {"backoffLimit": limit})}
    loaded = read(job)
    assert (loaded.pods[0].restart, loaded.pods[0].restart_retries) == (restart, retries)
    assert bool(loaded.warnings) == (policy == "Never")
