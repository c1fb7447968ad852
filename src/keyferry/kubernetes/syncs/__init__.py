"""SecretSyncs: objects, manifests and conditions of the SecretSync controller. [pure]"""
