import torch

from sameface.training.nets import SphereFace


def test_sphereface_20_has_twenty_convolutions_and_the_public_number_of_weights():
    net = SphereFace((64, 128, 256, 512), (1, 2, 4, 1))
    convolutions = [layer for layer in net.modules() if isinstance(layer, torch.nn.Conv2d)]
    assert len(convolutions) == 20
    # net_sphere.py, sphere20a, without fc5 and fc6: 3×3 kernels, their biases, one PReLU slope per channel and layer
    plan = [
        (3, 64),
        *[(64, 64)] * 2,
        (64, 128),
        *[(128, 128)] * 4,
        (128, 256),
        *[(256, 256)] * 8,
        (256, 512),
        *[(512, 512)] * 2,
    ]
    assert sum(p.numel() for p in net.parameters()) == sum(9 * a * b + 2 * b for a, b in plan)
    assert net(torch.zeros(1, 3, 112, 96)).shape == (1, 512, 7, 6)


def test_sphereface_64_has_sixty_four():
    net = SphereFace((4, 4, 4, 4), (3, 8, 16, 3))
    assert sum(isinstance(layer, torch.nn.Conv2d) for layer in net.modules()) == 64


def test_a_photo_does_not_depend_on_its_neighbours():
    torch.manual_seed(0)
    net, x = SphereFace((4, 8), (1, 1)), torch.rand(3, 3, 16, 16)
    torch.testing.assert_close(net(x)[1:2], net(x[1:2]))
