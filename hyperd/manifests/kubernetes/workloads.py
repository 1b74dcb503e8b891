"""The kinds that have pods, or a template of them, inside."""

from typing import Any, NamedTuple

from msgspec.structs import replace

from hyperd import spec
from hyperd.errors import InvalidError
from hyperd.manifests import names
from hyperd.manifests.decode import Record, decode
from hyperd.manifests.kubernetes import records
from hyperd.manifests.kubernetes.pods import check_metadata, pod
from hyperd.manifests.kubernetes.services import full_names, with_aliases
from hyperd.manifests.kubernetes.store import Store, claim_size, namespace_of
from hyperd.manifests.weight import BYTES_MAX, check_weight, weight_of

REPLICAS_MAX = 100
# That of Kubernetes, for a Job that does not say.
_BACKOFF_LIMIT = 6


class Expression(Record, frozen=True):
    key: str
    operator: str
    values: list[str] = []


class Selector(Record, frozen=True):
    match_labels: dict[str, str] = {}
    match_expressions: list[Expression] = []


class Template(Record, frozen=True):
    spec: records.PodSpec
    metadata: records.Metadata = records.Metadata()


class _Workload(Record, frozen=True):
    template: Template


class DeploymentSpec(_Workload, frozen=True):
    """Of Deployment, ReplicaSet, DaemonSet and StatefulSet; how they are rolled out has no meaning here."""

    selector: Selector
    replicas: int = 1
    volume_claim_templates: list[records.Claim] = []
    min_ready_seconds: Any = None
    strategy: Any = None
    update_strategy: Any = None
    revision_history_limit: Any = None
    paused: Any = None
    progress_deadline_seconds: Any = None
    service_name: str = ""
    pod_management_policy: Any = None
    ordinals: Any = None
    persistent_volume_claim_retention_policy: Any = None


class ControllerSpec(_Workload, frozen=True):
    """Of a ReplicationController, which may leave its selector to the labels of its pods."""

    selector: dict[str, str] = {}
    replicas: int = 1
    min_ready_seconds: Any = None


class JobSpec(_Workload, frozen=True):
    selector: Selector | None = None
    active_deadline_seconds: int | None = None
    parallelism: int = 1
    completions: int | None = None
    manual_selector: Any = None
    backoff_limit: int | None = None
    backoff_limit_per_index: Any = None
    completion_mode: Any = None
    managed_by: Any = None
    max_failed_indexes: Any = None
    pod_failure_policy: Any = None
    pod_replacement_policy: Any = None
    success_policy: Any = None
    suspend: Any = None
    ttl_seconds_after_finished: Any = None


class JobTemplate(Record, frozen=True):
    spec: JobSpec
    metadata: records.Metadata = records.Metadata()


class CronJobSpec(Record, frozen=True):
    schedule: str
    job_template: JobTemplate
    concurrency_policy: Any = None
    failed_jobs_history_limit: Any = None
    starting_deadline_seconds: Any = None
    successful_jobs_history_limit: Any = None
    suspend: Any = None
    time_zone: Any = None


class _Object(Record, frozen=True):
    metadata: records.Metadata
    api_version: str = ""
    kind: str = ""
    status: Any = None


class Deployment(_Object, frozen=True, kw_only=True):
    spec: DeploymentSpec


class ReplicationController(_Object, frozen=True, kw_only=True):
    spec: ControllerSpec


class Job(_Object, frozen=True, kw_only=True):
    spec: JobSpec


class CronJob(_Object, frozen=True, kw_only=True):
    spec: CronJobSpec


class Made(NamedTuple):
    """What the documents have in common; ``suffix`` is what generateName gets."""

    store: Store
    warnings: list[str]
    suffix: str


def from_pod(document: Any, made: Made) -> list[spec.Pod]:
    found = decode(document, records.Pod)
    check_metadata(found.metadata, "metadata")
    return [pod(_name(found.metadata, made), found.metadata, found.spec, "spec", made.store, made.warnings)]


def from_deployment(document: Any, made: Made) -> list[spec.Pod]:
    """Also ReplicaSet, DaemonSet and StatefulSet. Each replica is a pod; with several they are numbered, a StatefulSet's always."""
    return _replicas(decode(document, Deployment), made)


def from_replication_controller(document: Any, made: Made) -> list[spec.Pod]:
    found = decode(document, ReplicationController)
    labels = found.spec.selector or found.spec.template.metadata.labels
    body = DeploymentSpec(template=found.spec.template, selector=Selector(match_labels=labels), replicas=found.spec.replicas)
    return _replicas(Deployment(metadata=found.metadata, kind=found.kind, spec=body), made)


def _replicas(found: Deployment, made: Made) -> list[spec.Pod]:
    body, name, kind = found.spec, _name(found.metadata, made), found.kind
    _check_selector(body.selector, body.template.metadata.labels)
    if body.template.spec.restart_policy != "Always":
        raise InvalidError(f"spec.template.spec.restartPolicy: must be Always in a {kind}")
    if not 0 <= body.replicas <= REPLICAS_MAX:
        raise InvalidError(f"spec.replicas: {body.replicas} is not a number from 0 to {REPLICAS_MAX}")
    if body.volume_claim_templates and kind != "StatefulSet":
        raise InvalidError(f"spec.volumeClaimTemplates: a {kind} has none")
    if body.paused:
        made.warnings.append("spec.paused is ignored: pods are made at once")
    replicas = 1 if kind == "DaemonSet" else body.replicas
    if replicas == 0:
        made.warnings.append("spec.replicas is 0: no pod is made")
    numbered = kind == "StatefulSet" or replicas > 1
    pods: list[spec.Pod] = []
    size = 0
    for index in range(replicas):
        pods.append(_replica(f"{name}-{index}" if numbered else name, found, made))
        size += weight_of(pods[-1])
        check_weight(size, "spec.replicas", BYTES_MAX)
    return pods


def _replica(name: str, found: Deployment, made: Made) -> spec.Pod:
    template = found.spec.template
    body, store = template.spec, made.store
    claimed = []
    for index, claim in enumerate(found.spec.volume_claim_templates):
        where = f"spec.volumeClaimTemplates[{index}]"
        volume = names.dns_label(claim.metadata.name, f"{where}.metadata.name")
        own = f"{volume}-{name}"
        claimed.append(records.Volume(name=volume, persistent_volume_claim=records.ClaimVolume(claim_name=own)))
        store.claims[(namespace_of(found.metadata), own)] = claim_size(claim.spec, f"{where}.spec")
    if claimed:
        taken = {volume.name for volume in claimed}
        body = replace(body, volumes=claimed + [volume for volume in body.volumes if volume.name not in taken])
    pod = _from_template(name, found.metadata, template, body, "spec.template", made)
    service = found.spec.service_name
    if found.kind != "StatefulSet" or not service:
        return pod
    return with_aliases(pod, full_names(f"{name}.{names.dns_label(service, 'spec.serviceName')}", namespace_of(found.metadata)))


def from_job(document: Any, made: Made) -> list[spec.Pod]:
    found = decode(document, Job)
    return [_job(_name(found.metadata, made), found.metadata, found.spec, "spec", made)]


def from_cron_job(document: Any, made: Made) -> list[spec.Pod]:
    found = decode(document, CronJob)
    made.warnings.append(f"spec.schedule {found.spec.schedule[:80]!r} is not followed: the job is run once, now")
    return [_job(_name(found.metadata, made), found.metadata, found.spec.job_template.spec, "spec.jobTemplate.spec", made)]


def _job(name: str, metadata: records.Metadata, found: JobSpec, path: str, made: Made) -> spec.Pod:
    if found.template.spec.restart_policy not in ("OnFailure", "Never"):
        raise InvalidError(f"{path}.template.spec.restartPolicy: must be OnFailure or Never in a Job")
    if found.parallelism > 1 or (found.completions or 1) > 1:
        made.warnings.append(f"{path}.completions and parallelism are ignored: one pod is made")
    if found.ttl_seconds_after_finished is not None:
        made.warnings.append(f"{path}.ttlSecondsAfterFinished is ignored: the pod stays until it is removed")
    for field in ("pod_failure_policy", "success_policy", "backoff_limit_per_index"):
        if getattr(found, field) is not None:
            raise InvalidError(f"{path}: {field.replace('_', ' ')} is not supported")
    if found.suspend:
        made.warnings.append(f"{path}.suspend is ignored: the pod is made at once")
    body = found.template.spec
    if found.active_deadline_seconds is not None and body.active_deadline_seconds is None:
        body = replace(body, active_deadline_seconds=found.active_deadline_seconds)
    return _with_backoff(_from_template(name, metadata, found.template, body, f"{path}.template", made), found.backoff_limit, path, made)


def _with_backoff(job: spec.Pod, limit: int | None, path: str, made: Made) -> spec.Pod:
    """With OnFailure the limit is how often a container is started again. With Never Kubernetes would make further pods."""
    if limit is not None and not 0 <= limit < 1 << 31:
        raise InvalidError(f"{path}.backoffLimit: {limit} is not a number of retries")
    if job.restart == "on-failure":
        retries = _BACKOFF_LIMIT if limit is None else limit
        return replace(job, restart_retries=retries) if retries else replace(job, restart="never")
    if limit:
        made.warnings.append(f"{path}.backoffLimit is ignored: restartPolicy is Never, and one pod is made")
    return job


def _from_template(
    name: str, owner: records.Metadata, template: Template, body: records.PodSpec, path: str, made: Made
) -> spec.Pod:
    check_metadata(template.metadata, f"{path}.metadata")
    metadata = replace(template.metadata, namespace=owner.namespace)
    return pod(name, metadata, body, f"{path}.spec", made.store, made.warnings)


def _name(metadata: records.Metadata, made: Made) -> str:
    check_metadata(metadata, "metadata")
    if not metadata.name and not metadata.generate_name:
        raise InvalidError("metadata.name: missing")
    return names.dns_subdomain(metadata.name or metadata.generate_name + made.suffix, "metadata.name")


def _check_selector(selector: Selector, labels: dict[str, str]) -> None:
    if not selector.match_labels and not selector.match_expressions:
        raise InvalidError("spec.selector: must not be empty")
    for key, value in selector.match_labels.items():
        if labels.get(key) != value:
            raise InvalidError(f"spec.template.metadata.labels: do not match spec.selector.matchLabels: {key}={value}")
    for index, expression in enumerate(selector.match_expressions):
        if not _matches(expression, labels, f"spec.selector.matchExpressions[{index}]"):
            raise InvalidError(f"spec.template.metadata.labels: do not match spec.selector.matchExpressions[{index}]")


def _matches(expression: Expression, labels: dict[str, str], path: str) -> bool:
    given = labels.get(expression.key)
    if expression.operator == "In":
        return given in expression.values
    if expression.operator == "NotIn":
        return given not in expression.values
    if expression.operator in ("Exists", "DoesNotExist"):
        return (given is not None) == (expression.operator == "Exists")
    raise InvalidError(f"{path}.operator: {expression.operator[:80]!r} is none of In, NotIn, Exists, DoesNotExist")
