"""Questions: the bank (:mod:`.bank`) and the component that shows them (:mod:`.component`)."""
