def test_whether_something_is_judged_at_the_end(known):
    flat = {"counts": {"train": 60}}
    assert known().judged_at_the_end
    assert known(flat, test=0.2).judged_at_the_end
    assert not known(flat).judged_at_the_end
    assert not known(validation="test").judged_at_the_end


def test_processes_that_load_images(known):
    assert known().loaders == 0
    assert known(image_size=224).loaders == known({"counts": {"train": 60_000}}).loaders == 2
    assert known(data_loader={"num_workers": 5}).loaders == 5


def test_images_that_are_trained_on(known):
    assert known(validation=0.2).trained == 48
    assert known(validation="test").trained == 60
