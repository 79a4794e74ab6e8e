"""The catalogue of networks, and each one's layers."""

import pytest


def test_the_networks_there_are(shared):
    items = {one["name"]: one for one in shared.get("/architectures").json()["items"]}
    assert {"mnist_net", "cifar10_net", "lenet5"} <= set(items)
    assert items["mnist_net"]["input"] == "1x28x28"
    assert items["mnist_net"]["summary"]


def test_the_layers_for_its_own_images(shared):
    found = shared.get("/architectures/MNIST-Net").json()
    assert (found["name"], found["input"], found["classes"]) == ("mnist_net", "1x28x28", 10)
    assert found["layers"][-1]["output_shape"] == [10]
    assert found["parameters"] == sum(layer["parameters"] for layer in found["layers"])
    assert found["flops"] > 0


def test_the_layers_for_other_images(shared):
    found = shared.get("/architectures/mnist_net?input=3x64x48&classes=7").json()
    assert found["layers"][0]["arguments"]["in_channels"] == 3
    assert found["layers"][0]["output_shape"] == [10, 60, 44]
    assert found["layers"][-1]["output_shape"] == [7]


def test_a_network_that_does_not_exist(shared, problem):
    document = problem(shared.get("/architectures/mnist-ned"), 404, "architecture_unknown")
    assert "'mnist_net'" in document["hint"]
    assert document["errors"][0]["loc"] == ["path", "name"]


def test_images_that_it_cannot_take(shared, problem):
    response = shared.get("/architectures/mnist_net?input=1x8x8")
    document = problem(response, 422, "network_misfit")
    assert "10 x 2 x 2" in document["detail"]
    assert document["errors"][0]["loc"] == ["query", "input"]


def test_torchvisions_networks_are_listed_too(shared):
    items = {one["name"]: one for one in shared.get("/architectures").json()["items"]}
    assert items["resnet18"]["input"] == "3x224x224"
    assert "11.7 M parameters" in items["resnet18"]["summary"]
    assert items["inception_v3"]["input"] == "3x299x299"


def test_the_layers_of_one_of_torchvisions(shared, problem):
    found = shared.get("/architectures/ResNet-18?classes=1000").json()
    assert (found["name"], found["parameters"]) == ("resnet18", 11_689_512)
    assert found["flops"] == 3_628_146_688
    assert found["layers"][0]["output_shape"] == [64, 112, 112]
    document = problem(shared.get("/architectures/vgg16?input=3x16x16"), 422, "network_misfit")
    assert document["errors"] == [{"loc": ["query", "input"], "msg": "smaller than 32"}]


@pytest.mark.parametrize(
    "query", ["input=28x28", "input=0x1x1", "input=1x99999x1", "classes=0", "classes=many"]
)
def test_a_shape_that_is_none(shared, problem, query):
    problem(shared.get(f"/architectures/mnist_net?{query}"), 422, "invalid_request")


def test_the_list_comes_in_pages(comes_in_pages):
    comes_in_pages("/architectures")
