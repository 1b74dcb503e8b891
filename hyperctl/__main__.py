from hyperctl.main import main

main()
